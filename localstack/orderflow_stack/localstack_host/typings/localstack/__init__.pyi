"""The types of LocalStack 4.13.1 as far as the executor plugin uses them.

Only mypy reads them: it runs where LocalStack is not installed.
"""
