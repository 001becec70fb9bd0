//! Basic authentication against bcrypt hashes.
//!
//! bcrypt is slow on purpose, so that verified pairs are remembered for as long as the configuration stands, and only a
//! few checks run at a time: guessing must not slow down measuring.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};
use http::{HeaderMap, header::AUTHORIZATION};
use tokio::sync::Semaphore;

/// Checks that run at the same time.
const CHECKS_MAX: usize = 1;

/// Verified pairs that are remembered; more than any set of scrapers needs.
const REMEMBERED_MAX: usize = 128;

/// A hash of nothing, checked for unknown users so that they take as long as known ones.
const UNKNOWN_USER: &str = "$2b$10$abcdefghijklmnopqrstuuTsXrWNRQlInzTA6RUFUSCbQYo8Rg8dq";

/// The users that may come in; none: everybody may.
#[derive(Debug, Default)]
pub(super) struct Users {
    hashes: BTreeMap<String, String>,
    remembered: Mutex<HashSet<Vec<u8>>>,
    checks: Option<Arc<Semaphore>>,
}

impl Users {
    /// Users and their bcrypt hashes; the error names what is wrong.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> Result<Self, String> {
        for (user, hash) in &hashes {
            hash.parse::<bcrypt::HashParts>().map_err(|_| {
                format!("basic_auth_users.{user}: not a bcrypt hash; make one with `htpasswd -nBC 10 {user}`")
            })?;
        }
        let checks = Some(Arc::new(Semaphore::new(CHECKS_MAX)));
        Ok(Self { hashes, remembered: Mutex::default(), checks })
    }

    /// Whether these request headers let the request in.
    pub(super) async fn admit(&self, headers: &HeaderMap) -> bool {
        if self.hashes.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else { return false };
        let known = self.hashes.get(&user);
        let hash = known.map_or(UNKNOWN_USER, String::as_str).to_owned();
        let key = fingerprint(&[&user, &password, &hash]);
        if self.remembered().contains(&key) {
            return true;
        }
        let Some(checks) = &self.checks else { return false };
        let Ok(_permit) = checks.acquire().await else { return false };
        let check = move || bcrypt::verify(&password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false) && known.is_some();
        if right {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(key);
        }
        right
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<Vec<u8>>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// User and password of `Authorization: Basic`.
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(base64(encoded.trim())?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Standard base64 (RFC 4648, section 4), padding optional; `None` for anything else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for symbol in text.trim_end_matches('=').bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

fn fingerprint(parts: &[&str]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_reads_the_examples_of_its_standard() {
        // RFC 4648, section 10.
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9vYg", "foob"), ("Zm9vYmFy", "foobar")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(base64("Zg-_"), None);
    }

    #[test]
    fn the_hash_for_unknown_users_is_a_hash() {
        assert!(UNKNOWN_USER.parse::<bcrypt::HashParts>().is_ok());
    }
}
