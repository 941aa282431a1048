"""IMDv3, the protocol by which programs of molecular dynamics stream their frames: packets, a server, a client."""
