//! Dialogues of real clients.
