//! Status page, metrics, API, health and reload over HTTP.
