"""Converters: from a public dataset as it is downloaded, or a folder of one's own, to a raw dataset folder."""
