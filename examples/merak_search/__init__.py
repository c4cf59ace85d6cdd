"""Merak finds people for a question, and lets the user choose one: one server tool that waits for the page."""
