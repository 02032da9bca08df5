"""Data sets this project generates itself: nothing is downloaded."""
