//! The one loop that both daemon and one-shot run.
