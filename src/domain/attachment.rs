//! What an attachment may be, told by its first bytes and not by its name.

use super::vocabulary::vocabulary;

vocabulary! {
    /// A media type that is taken.
    pub enum MediaType {
        /// PDF (ISO 32000).
        Pdf => "application/pdf",
        /// PNG (ISO/IEC 15948).
        Png => "image/png",
        /// JPEG (ISO/IEC 10918).
        Jpeg => "image/jpeg",
        /// ZIP archive.
        Zip => "application/zip",
        /// Office Open XML document, a ZIP archive (ISO/IEC 29500).
        Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        /// Plain text in any encoding that keeps ASCII's control characters, such as UTF-8 and GB 18030.
        PlainText => "text/plain",
    }
}

impl MediaType {
    /// The type with this name; a known one only.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == name)
    }

    /// Whether content of this type can begin so.
    pub fn begins(self, first: &[u8]) -> bool {
        match self {
            Self::Pdf => first.starts_with(b"%PDF-"),
            Self::Png => first.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Jpeg => first.starts_with(b"\xff\xd8\xff"),
            Self::Zip | Self::Docx => first.starts_with(b"PK\x03\x04"),
            Self::PlainText => self.goes_on(first),
        }
    }

    /// Whether content of this type can hold these bytes anywhere.
    pub fn goes_on(self, bytes: &[u8]) -> bool {
        let is_text = |byte: &u8| *byte >= 0x20 && *byte != 0x7f || b"\t\n\r\x0c".contains(byte);
        self != Self::PlainText || bytes.iter().all(is_text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_told_by_its_first_bytes() {
        let samples: [(MediaType, &[u8]); 6] = [
            (MediaType::Pdf, b"%PDF-1.7\n\x00"),
            (MediaType::Png, b"\x89PNG\r\n\x1a\n\x00"),
            (MediaType::Jpeg, b"\xff\xd8\xff\xe0\x00"),
            (MediaType::Zip, b"PK\x03\x04\x00"),
            (MediaType::Docx, b"PK\x03\x04\x00"),
            (MediaType::PlainText, "民事裁定书\r\n".as_bytes()),
        ];
        for media_type in MediaType::ALL {
            assert_eq!(MediaType::from_name(media_type.as_str()), Some(*media_type));
            for (of, bytes) in samples {
                let both_archives =
                    [*media_type, of].iter().all(|of| matches!(of, MediaType::Zip | MediaType::Docx));
                assert_eq!(media_type.begins(bytes), *media_type == of || both_archives, "{media_type} {of}");
            }
            assert!(!media_type.begins(b"\x7fELF\x00"), "{media_type}");
        }
        assert_eq!(MediaType::from_name("application/x-msdownload"), None);
    }

    #[test]
    fn text_has_no_control_characters_anywhere() {
        assert!(MediaType::PlainText.goes_on(b"a\tb\n") && !MediaType::PlainText.goes_on(b"a\0"));
        assert!(MediaType::Pdf.goes_on(b"a\0"));
    }
}
