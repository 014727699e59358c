//! A page token opens for its own filter and in its own spelling only. The filter is the first line.
#![no_main]

use legal_aid_gateway::grpc::fuzzing::{open_page_token, page_token};
use legal_aid_gateway_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds("page_tokens", examples), |text: &str| {
    let Some((filter, token)) = text.split_once('\n') else { return };
    if let Some(position) = open_page_token(filter, token) {
        assert_eq!(open_page_token(filter, &page_token(filter, &position)), Some(position));
        assert!(open_page_token(&format!("{filter}a"), token).is_none(), "opens under another filter");
    }
    let sealed = page_token(filter, token.as_bytes());
    assert_eq!(open_page_token(filter, &sealed).as_deref(), Some(token.as_bytes()));
    let (half, rest) = sealed.split_at(sealed.len() / 2);
    assert!(open_page_token(filter, half).is_none() && open_page_token(filter, rest).is_none());
});

fn examples() -> Vec<(&'static str, Vec<u8>)> {
    let token =
        |filter: &str, position: &[u8]| format!("{filter}\n{}", page_token(filter, position)).into_bytes();
    vec![
        ("first", token("exchanges", &[0; 8])),
        ("watch", token("watch\u{0}12331004MB0000002T", &42_u64.to_be_bytes())),
        ("foreign", b"exchanges\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_vec()),
    ]
}
