//! Pages: sizes, and tokens bound to the filter that they were made for.

use data_encoding::BASE64URL_NOPAD;

use super::status::Refusal;
use crate::audit::entry::PseudonymKey;
use crate::domain::violation::Violations;

/// Bytes of a token's tag.
const TAG: usize = 16;

/// Reads a page size; 0 means `default`.
pub(crate) fn page_size(violations: &mut Violations, value: i32, default: u32, most: u32) -> Option<u32> {
    match u32::try_from(value) {
        Ok(0) => Some(default),
        Ok(size) if size <= most => Some(size),
        _ => {
            violations.add(
                "page_size",
                "PAGE_SIZE",
                format!("must be 0 to {most}"),
                format!("每页条数须为0至{most}"),
            );
            None
        }
    }
}

/// Makes and reads the page tokens of one filter.
pub(crate) struct PageToken<'k> {
    key: &'k PseudonymKey,
    filter: String,
}

impl<'k> PageToken<'k> {
    /// Tokens that hold for `filter` only.
    pub(crate) fn new(key: &'k PseudonymKey, filter: String) -> Self {
        Self { key, filter }
    }

    /// The token of a position.
    pub(crate) fn seal(&self, position: &[u8]) -> String {
        let mut bytes = position.to_vec();
        bytes.extend_from_slice(&self.tag(position)[..TAG]);
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The position of a token; `None` for the first page.
    pub(crate) fn open(&self, token: &str) -> Result<Option<Vec<u8>>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap_or_default();
        let split = bytes.len().checked_sub(TAG).map(|at| bytes.split_at(at));
        match split {
            Some((position, tag)) if self.tag(position)[..TAG] == *tag => Ok(Some(position.to_vec())),
            _ => {
                let mut violations = Violations::new();
                violations.add(
                    "page_token",
                    "PAGE_TOKEN",
                    "must come from an earlier answer to the same question",
                    "须使用同一查询先前返回的分页标记",
                );
                Err(Refusal::Invalid(violations.into_vec()))
            }
        }
    }

    fn tag(&self, position: &[u8]) -> [u8; 32] {
        let mut message = self.filter.clone().into_bytes();
        message.push(0);
        message.extend_from_slice(position);
        self.key.tag("page token", &message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_holds_for_its_own_filter_only() {
        let key = PseudonymKey::new([1; 32]);
        let tokens = PageToken::new(&key, "a".to_owned());
        let token = tokens.seal(&[1, 2, 3]);
        assert_eq!(tokens.open(&token).unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(tokens.open("").unwrap(), None);
        assert!(PageToken::new(&key, "b".to_owned()).open(&token).is_err());
        assert!(PageToken::new(&PseudonymKey::new([2; 32]), "a".to_owned()).open(&token).is_err());
    }

    proptest! {
        #[test]
        fn no_text_opens_that_was_not_made_here(text in ".+") {
            let key = PseudonymKey::new([1; 32]);
            prop_assert!(PageToken::new(&key, "a".to_owned()).open(&text).is_err());
        }
    }
}
