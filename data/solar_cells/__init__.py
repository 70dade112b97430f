"""Electroluminescence images of solar cells."""
