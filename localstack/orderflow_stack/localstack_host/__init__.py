"""LocalStack without Docker: `setup` installs it, `source_fixes` mends it, `emulator` starts it.

`executor` holds the plugin by which it runs functions as processes; LocalStack loads that, this package does not.
`typings` describes to mypy the part of LocalStack that the plugin uses.
"""
