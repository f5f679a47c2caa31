"""MiniStack, the default emulator; it is installed into .local/venv with the AWS CLI (requirements.txt)."""
