//! What a refused handshake costs, beside a good one.

use std::path::Path;
use std::time::Duration;

use legal_aid_gateway::clock::Clock;
use legal_aid_gateway::domain::agency::CreditCode;
use legal_aid_gateway::identity::development::DevelopmentAuthority;
use legal_aid_gateway::setup::codes;
use tokio::io::AsyncReadExt as _;

use crate::peer::{H2, Identity};
use crate::process::cpu;

/// Handshakes of each kind in a round; processor time is counted in hundredths of a second.
const HANDSHAKES: usize = 300;

/// Rounds, in alternation.
const ROUNDS: usize = 3;

/// Prints the processor time of a handshake of each kind, and returns which cost more than twice a good one.
pub(crate) async fn compare(folder: &Path, pid: u32) -> Vec<String> {
    let authority = DevelopmentAuthority::load(&folder.join("tls")).unwrap();
    let known = Identity::load(folder, "court");
    let now = Clock::system().now();
    let hour = Duration::from_secs(3600);
    let court = CreditCode::parse(codes::COURT).unwrap();
    let good = authority.issue(court, "court", &[], now, hour).unwrap();
    let expired = authority.issue(court, "court", &[], now - 3 * hour, hour).unwrap();
    let stranger = DevelopmentAuthority::create("legal-aid exchange", now).unwrap();
    let stranger = stranger.issue(court, "court", &[], now, hour).unwrap();
    let chain = |repeated: usize| good.certificate_pem.repeat(repeated);
    let showing = |chain: &str, key: &str| known.showing(chain.as_bytes(), key.as_bytes());
    let kinds = [
        ("good", showing(&good.certificate_pem, &good.key_pem), H2),
        ("no certificate", known.showing_nothing(), H2),
        ("of another authority", showing(&stranger.certificate_pem, &stranger.key_pem), H2),
        ("expired", showing(&expired.certificate_pem, &expired.key_pem), H2),
        ("a chain of 4 of one name", showing(&chain(4), &good.key_pem), H2),
        ("a chain of 100 of one name", showing(&chain(100), &good.key_pem), H2),
        ("no ALPN in common", known.clone(), b"http/1.1".as_slice()),
    ];
    let mut spent = [Duration::ZERO; 7];
    for _ in 0..ROUNDS {
        for (spent, (_, identity, alpn)) in spent.iter_mut().zip(&kinds) {
            let before = cpu(pid);
            for _ in 0..HANDSHAKES {
                // Either side may end it; a good one ends when it is silent, so the client goes.
                if let Ok(mut stream) = identity.tls_from(1, &[*alpn]).await {
                    use tokio::io::AsyncWriteExt as _;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            }
            *spent += cpu(pid).saturating_sub(before);
        }
    }
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / (ROUNDS * HANDSHAKES) as f64;
    println!("| handshake | CPU of the gateway, microseconds | ratio to a good one |");
    println!("|---|---|---|");
    let mut misses = Vec::new();
    for (spent_on, (title, ..)) in spent.iter().zip(&kinds) {
        let ratio = spent_on.as_secs_f64() / spent[0].as_secs_f64().max(f64::MIN_POSITIVE);
        println!("| {title} | {:.0} | {ratio:.2} |", each(*spent_on));
        if ratio > 2.0 {
            misses.push(format!("a refused handshake, {title}, costs {ratio:.2} times a good one"));
        }
    }
    misses
}
