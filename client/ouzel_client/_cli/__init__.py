"""The command `ouzel`."""
