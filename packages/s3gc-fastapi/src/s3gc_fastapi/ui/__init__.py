"""The dashboard: pages made on the server, readable without scripts; a script only shows progress."""
