//! Webhook and Alertmanager pushes.
