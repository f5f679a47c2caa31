"""Stripe on this machine, for stacks whose orders are paid: localstripe."""
