"""A transparent log as C2SP standardises it: Merkle trees, tiles, signed notes, checkpoints, proofs."""
