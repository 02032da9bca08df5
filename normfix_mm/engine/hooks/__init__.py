"""Hooks of the mmengine Runner, registered by importing `normfix_mm.engine`."""
