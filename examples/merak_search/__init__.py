"""Merak finds people for a question, and shows them on a canvas: three client tools from one run of one server tool."""
