"""The example of a shop's page, served on this machine as a process of a stack."""
