"""Converters: a public dataset as it is downloaded -> a raw dataset folder."""
