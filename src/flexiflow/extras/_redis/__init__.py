"""Redis servers, for what stands on them: connections, scripts, errors and URLs."""
