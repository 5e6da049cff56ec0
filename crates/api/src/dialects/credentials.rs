//! What a registrant is given to call with, and what we keep of it.

use postrider_core::{
    CredentialError, PasswordError, PasswordHash, Proof, SharedSecret, TokenHash, check_text,
    check_word,
};

/// What a registrant brings from elsewhere and wants to go on with; the rest is drawn.
#[derive(Clone, Default)]
pub struct Brought {
    /// An API key or a user.
    pub public_id: Option<String>,
    /// A secret, password or token.
    pub secret: Option<String>,
}

/// A credential that was made.
pub struct Issued {
    /// What we recognise its holder by.
    pub proof: Proof,
    /// What its holder is given, by the names it is given under; the last is shown this once.
    pub given: Vec<(&'static str, String)>,
}

/// The credential cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// What was brought cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The password cannot be hashed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Something was brought that a credential of this kind does not have.
    #[error("a credential for {0} is a token alone: bring no id")]
    NoId(&'static str),
}

/// How long a secret that is drawn is, in characters of base 62: more than 190 bits.
const SECRET_CHARS: usize = 32;
/// The shortest token that can be brought: shorter ones could be found by trying.
const TOKEN_MIN_BYTES: usize = 16;

/// An id and a secret that signs.
pub fn signing(
    names: [&'static str; 2],
    brought: Brought,
    draw_id: fn() -> String,
) -> Result<Issued, IssueError> {
    let id = brought.public_id.unwrap_or_else(draw_id);
    let secret = brought.secret.unwrap_or_else(|| drawn(SECRET_CHARS));
    check_word("API key", 1, &id)?;
    check_text("API secret", TOKEN_MIN_BYTES, &secret)?;
    Ok(Issued {
        proof: Proof::Secret {
            id: id.clone(),
            secret: SharedSecret::new(secret.as_bytes()),
        },
        given: names.into_iter().zip([id, secret]).collect(),
    })
}

/// A user and a password.
pub fn password(
    names: [&'static str; 2],
    brought: Brought,
    draw_user: fn() -> String,
) -> Result<Issued, IssueError> {
    let user = brought.public_id.unwrap_or_else(draw_user);
    let password = brought.secret.unwrap_or_else(|| drawn(SECRET_CHARS));
    check_text("user", 1, &user)?;
    check_text("password", 8, &password)?;
    Ok(Issued {
        proof: Proof::Password {
            user: user.clone(),
            hash: PasswordHash::of(&password)?,
        },
        given: names.into_iter().zip([user, password]).collect(),
    })
}

/// A token of the system of this name.
pub fn token(
    system: &'static str,
    name: &'static str,
    brought: Brought,
) -> Result<Issued, IssueError> {
    if brought.public_id.is_some() {
        return Err(IssueError::NoId(system));
    }
    let token = brought.secret.unwrap_or_else(|| drawn(SECRET_CHARS));
    check_word("token", TOKEN_MIN_BYTES, &token)?;
    Ok(Issued {
        proof: Proof::Token(TokenHash::of_registrant(system, &token)),
        given: vec![(name, token)],
    })
}

/// Draws `chars` random characters of base 62.
pub fn drawn(chars: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..chars)
        .map(|_| char::from(DIGITS[rand::random_range(0..DIGITS.len())]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brought(public_id: Option<&str>, secret: Option<&str>) -> Brought {
        Brought {
            public_id: public_id.map(Into::into),
            secret: secret.map(Into::into),
        }
    }

    #[test]
    fn what_is_given_is_what_is_recognised() {
        let made = signing(["api_key", "api_secret"], Brought::default(), || {
            "ID".into()
        });
        let made = made.unwrap();
        let [("api_key", id), ("api_secret", secret)] = made.given.as_slice() else {
            panic!("{:?}", made.given);
        };
        let expected = Proof::Secret {
            id: id.clone(),
            secret: SharedSecret::new(secret.as_bytes()),
        };
        assert_eq!(made.proof, expected);
        assert_eq!((id.as_str(), secret.len()), ("ID", SECRET_CHARS));

        let made = password(["user", "password"], Brought::default(), || "u".into());
        let made = made.unwrap();
        let Proof::Password { user, hash } = made.proof else {
            panic!("no password");
        };
        assert_eq!(user, made.given[0].1);
        assert!(hash.verify(&made.given[1].1));

        let made = token("some", "token", Brought::default()).unwrap();
        let hash = TokenHash::of_registrant("some", &made.given[0].1);
        assert_eq!(made.proof, Proof::Token(hash));
    }

    #[test]
    fn what_is_brought_is_kept_unless_it_could_be_guessed() {
        let names = ["user", "password"];
        let bring = brought(Some("api_user"), Some("api_pass"));
        let made = password(names, bring, || "u".into()).unwrap();
        let given: Vec<_> = made.given.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(given, ["api_user", "api_pass"]);
        assert!(password(names, brought(None, Some("short")), String::new).is_err());
        assert!(signing(names, brought(Some("a,b"), None), String::new).is_err());
        assert!(signing(names, brought(Some("a"), Some("short")), String::new).is_err());
        assert!(token("some", "token", brought(None, Some("short"))).is_err());
        let with_id = token("some", "token", brought(Some("id"), None));
        assert!(matches!(with_id, Err(IssueError::NoId("some"))));
    }

    #[test]
    fn no_two_secrets_are_alike() {
        assert_ne!(drawn(SECRET_CHARS), drawn(SECRET_CHARS));
    }
}
