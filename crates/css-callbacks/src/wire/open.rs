//! Open enumerations: a variant for each documented value, and one that keeps any other value as received.

/// Declares an enumeration of words.
///
/// `: any_case` after the name reads the documented words in any case; they are then written as documented.
macro_rules! open_text {
    ($(#[$doc:meta])* pub enum $name:ident: any_case { $($variants:tt)* }) => {
        $crate::wire::open::open_text! { @define eq_ignore_ascii_case $(#[$doc])* $name { $($variants)* } }
    };
    ($(#[$doc:meta])* pub enum $name:ident { $($variants:tt)* }) => {
        $crate::wire::open::open_text! { @define eq $(#[$doc])* $name { $($variants)* } }
    };
    (
        @define $same:ident $(#[$doc:meta])* $name:ident {
            $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
        pub enum $name {
            $(
                $(#[$variant_doc])*
                #[cfg_attr(any(test, feature = "schema"), schemars(rename = $text))]
                $variant,
            )*
            /// Any other word, as received.
            #[cfg_attr(any(test, feature = "schema"), schemars(untagged))]
            Other(String),
        }

        impl $name {
            /// The word as the documentation writes it, or as it was received.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                $(if text.as_str().$same($text) {
                    return Self::$variant;
                })*
                Self::Other(text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}
pub(crate) use open_text;

/// Declares an enumeration of integer codes with their meanings.
macro_rules! open_code {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident {
            $($variant:ident = $code:literal: $meaning:literal,)*
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $(#[doc = concat!($code, ": ", $meaning, ".")] $variant,)*
            /// Any other code, as received.
            Other(i64),
        }

        impl $name {
            /// The code on the wire.
            pub fn code(self) -> i64 {
                match self {
                    $(Self::$variant => $code,)*
                    Self::Other(code) => code,
                }
            }

            /// What the code means; none if it is not documented.
            pub fn meaning(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($meaning),)*
                    Self::Other(_) => None,
                }
            }
        }

        impl From<i64> for $name {
            fn from(code: i64) -> Self {
                match code {
                    $($code => Self::$variant,)*
                    code => Self::Other(code),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.code().fmt(f)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_i64(self.code())
            }
        }

        #[cfg(any(test, feature = "schema"))]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::wire::schema::codes(concat!($($doc),+), &[$(($code, $meaning)),*])
            }
        }
    };
}
pub(crate) use open_code;

#[cfg(test)]
#[allow(unreachable_pub)]
mod tests {
    open_text! {
        /// A colour.
        pub enum Colour {
            /// Red.
            Red = "Red",
        }
    }

    open_text! {
        /// A container.
        pub enum Container: any_case {
            /// Flash video.
            Flv = "flv",
        }
    }

    open_code! {
        /// A fault.
        pub enum Fault {
            Late = -8: "too late",
        }
    }

    #[test]
    fn words_outside_the_list_stay_as_received() {
        assert_eq!(Colour::from("Red".to_owned()), Colour::Red);
        assert_eq!(Colour::from("red".to_owned()).to_string(), "red");
        assert_eq!(Container::from("FLV".to_owned()).as_str(), "flv");
        assert_eq!(Container::from("MKV".to_owned()).as_str(), "MKV");
    }

    #[test]
    fn codes_outside_the_list_stay_as_received() {
        assert_eq!(Fault::from(-8), Fault::Late);
        assert_eq!(Fault::Late.meaning(), Some("too late"));
        assert_eq!(Fault::from(9).to_string(), "9");
        assert_eq!(Fault::from(9).meaning(), None);
    }
}
