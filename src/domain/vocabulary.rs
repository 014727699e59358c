//! Closed lists of words: an enum whose variants are written the same in configuration and in reports.

/// Declares an enum with one written word for each variant: `as_str`, `Display`, serde and `ALL`.
macro_rules! vocabulary {
    (
        $(#[$about:meta])*
        pub enum $name:ident { $( $(#[$variant_about:meta])* $variant:ident => $word:literal, )+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name { $( $(#[$variant_about])* #[serde(rename = $word)] $variant, )+ }

        impl $name {
            /// Every word of the list, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word as it is written in configuration and reports.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use vocabulary;
