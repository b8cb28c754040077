"""What can be told of any network, and a private copy of it.

What its layers give, and where that has places of the image; which sizes of input it takes.
"""
