//! Where messages begin and end in a body: one byte that says whether it is compressed, four of length, the message.

/// Bytes before each message.
const PREFIX: usize = 5;

/// A message whose length has become known, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The first.
    First(usize),
    /// A further one.
    Further(usize),
}

/// Follows a body through its messages.
#[derive(Default)]
pub(super) struct Reader {
    /// Prefix bytes seen.
    seen: usize,
    length: u32,
    /// Message bytes to come.
    left: usize,
    messages: u64,
}

impl Reader {
    /// Reads on, and tells of each message as soon as its length is known.
    pub(super) fn read(&mut self, mut data: &[u8], mut tell: impl FnMut(Next)) {
        while !data.is_empty() {
            if self.left > 0 {
                let piece = self.left.min(data.len());
                self.left -= piece;
                data = &data[piece..];
                continue;
            }
            if self.seen > 0 {
                self.length = self.length << 8 | u32::from(data[0]);
            }
            self.seen += 1;
            data = &data[1..];
            if self.seen == PREFIX {
                self.left = usize::try_from(self.length).unwrap_or(usize::MAX);
                self.messages += 1;
                tell(if self.messages == 1 { Next::First(self.left) } else { Next::Further(self.left) });
                (self.seen, self.length) = (0, 0);
            }
        }
    }

    /// Whether anything of what follows the first message was seen.
    pub(super) fn is_past_first(&self) -> bool {
        self.messages > 1 || (self.messages == 1 && self.seen > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6),
            cuts in prop::collection::vec(1..9_usize, 1..20),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
            let (mut reader, mut told) = (Reader::default(), Vec::new());
            let (mut rest, mut cuts) = (bytes.as_slice(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                reader.read(piece, |next| told.push(next));
                rest = after;
            }
            let further = messages.iter().skip(1).map(|message| Next::Further(message.len()));
            let expected: Vec<Next> = std::iter::once(Next::First(messages[0].len())).chain(further).collect();
            prop_assert_eq!(told, expected);
            prop_assert_eq!(reader.is_past_first(), messages.len() > 1);
        }

        #[test]
        fn one_message_passes_and_a_byte_more_does_not(message: Vec<u8>) {
            let mut reader = Reader::default();
            reader.read(&framed(&message), |_| {});
            prop_assert!(!reader.is_past_first());
            reader.read(&[], |_| {});
            prop_assert!(!reader.is_past_first());
            reader.read(&[0], |_| {});
            prop_assert!(reader.is_past_first());
        }
    }
}
