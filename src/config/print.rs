//! The configuration that is in force, as text.

use toml::Value;

use super::Config;

impl Config {
    /// All settings as TOML, with those that were left out as they are by default. Keys are named by their files, never
    /// shown; a password in an address is left out.
    ///
    /// # Errors
    /// When a setting has no form in TOML, which is a fault of the gateway.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut value = Value::try_from(self)?;
        leave_passwords_out(&mut value);
        toml::to_string_pretty(&value)
    }
}

fn leave_passwords_out(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(shown) = without_password(text) {
                *text = shown;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(leave_passwords_out),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| leave_passwords_out(value)),
        _ => {}
    }
}

/// An address without the password in it (RFC 3986 section 3.2.1); `None` where there is none.
fn without_password(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user, _) = authority.rsplit_once('@')?;
    let (name, _password) = user.split_once(':')?;
    Some(format!("{scheme}://{name}:***{}", &rest[user.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_an_address_is_left_out() {
        let shown = |text| without_password(text);
        assert_eq!(shown("postgres://u:s@cret@db/x?y=1").as_deref(), Some("postgres://u:***@db/x?y=1"));
        for plain in ["postgres://u@db/x", "/a:b@c", "localhost:1", "urn:a:b", "https://db/a:b@c"] {
            assert_eq!(shown(plain), None, "{plain}");
        }
    }
}
