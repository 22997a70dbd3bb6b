"""The wire contract as code: subjects, headers, messages, errors. No input or output, no decisions."""
