//! Who is at the other end of a connection: certificates, the TLS front door, the way out, and a development PKI.
//!
//! An agency is known by its certificate and by nothing else. The certificate chains to the exchange's own authority
//! and carries the agency's unified social credit code in exactly one URI subject alternative name,
//! `urn:legal-aid:agency:<code>`; where the authority cannot write that, the agency's keys are pinned in the directory.
//! [`server::serve`] lets such agencies in, [`dialler::Dialler`] goes out to them.
//!
//! Two rules hold everywhere here: TLS 1.3 only, and no session resumption (a resumed session skips the certificate
//! verifier, so a suspended agency or an expired certificate would still get in).

pub mod acceptor;
pub mod admission;
pub mod certificate;
pub mod credentials;
pub mod description;
pub mod development;
pub mod dialler;
mod gather;
mod http2;
pub mod key_file;
mod outgoing;
mod partner;
pub mod pkcs12;
mod places;
pub mod request;
pub mod server;
mod standing;
pub mod watched_files;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use self::http2::read_frames;
use crate::clock::Clock;

/// The protocol spoken after TLS, as ALPN names it (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";

/// Spoken too where [`acceptor::Acceptor::with_http1`] says so (RFC 7301 section 6).
const HTTP1: &[u8] = b"http/1.1";

/// What a client sends first on an HTTP/2 connection (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Named explicitly: the process-wide default provider is whatever another crate installed first.
fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Lets rustls judge validity periods by the gateway's [`Clock`].
#[derive(Debug)]
struct ClockTime(Clock);

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
