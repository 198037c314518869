"""Names of other distributions under one roof: each module gives them, or says what to install."""
