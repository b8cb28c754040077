"""The wire contract of Ouzel: protobuf messages, the numpy codec, and what both ends must agree on."""
