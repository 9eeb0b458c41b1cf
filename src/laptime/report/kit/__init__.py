"""Shared by all reports: HTML, the page's frame, numbers, text and charts."""
