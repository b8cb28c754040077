"""What can be told of any network: what its layers give, and where that has places of the image; which sizes of input
it takes. And a private copy of it, without what others have wrapped around it.
"""
