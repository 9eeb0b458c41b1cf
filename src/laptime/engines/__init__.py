"""Requests to what already serves: the client of an endpoint that speaks OpenAI's protocol."""
