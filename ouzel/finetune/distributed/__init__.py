"""Data-parallel training: several processes, called ranks, compute parts of each batch and take the same steps.

Rank 0 is the process that trains: it decodes the images, draws what is varied, measures, saves and decides. The others
get the network when an epoch begins, and with each step their part of the batch. They know neither files nor stores, so
one that is lost loses nothing.
"""
