"""What a job of a CI system reads of a result: Markdown, JUnit XML, annotations."""
