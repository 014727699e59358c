//! Certificates, as far as the gateway itself reads them: what names an agency names exactly one.
#![no_main]

use legal_aid_gateway::identity::certificate::{AGENCY_URI_PREFIX, PeerCertificate};
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, KeyPair, SanType};

fuzz_target!(init: seeds("certificates", examples), |der: &[u8]| {
    if let Ok(certificate) = PeerCertificate::parse(der) {
        let name = format!("{AGENCY_URI_PREFIX}{}", certificate.agency);
        assert!(der.windows(name.len()).any(|window| window == name.as_bytes()), "{name} does not stand in it");
        let longer = [der, b"\0"].concat();
        assert!(PeerCertificate::parse(&longer).is_err(), "bytes behind a certificate are let through");
    }
});

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let of = |names: &[&str]| {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            names.iter().map(|name| SanType::URI((*name).try_into().unwrap())).collect();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    vec![
        ("one", of(&["urn:legal-aid:agency:12331004MB0000002T"])),
        ("two", of(&["urn:legal-aid:agency:12331004MB0000002T", "urn:legal-aid:agency:11331004MB00000031"])),
        ("none", of(&["urn:other"])),
    ]
}
