"""Folders of one's own: what `unetrpp_convert folder` needs besides what all converters share."""
