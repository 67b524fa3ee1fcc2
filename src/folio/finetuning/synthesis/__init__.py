"""Example data from any OpenAI-compatible endpoint: a template and lists in, texts out, within a budget."""
