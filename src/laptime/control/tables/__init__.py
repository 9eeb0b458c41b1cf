"""What a controller learns from: questions, choices, features and answers, and their files."""
