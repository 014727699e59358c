//! How articles are written in an agreement.

/// Articles as the audit log writes them: the law's title, a space, the article.
pub(super) mod legal_basis {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::domain::law::LegalBasis;

    pub(in crate::access) fn serialize<S: Serializer>(
        value: &[LegalBasis],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(value.iter().map(|basis| format!("{} {}", basis.law(), basis.article())))
    }

    pub(in crate::access) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<LegalBasis>, D::Error> {
        let read = |text: String| {
            let (law, article) = text.rsplit_once(' ')?;
            LegalBasis::parse(law, article).ok()
        };
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts
            .into_iter()
            .map(|text| read(text).ok_or_else(|| D::Error::custom("an article is written as 法律援助法 41")))
            .collect()
    }
}
