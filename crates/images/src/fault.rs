//! What goes wrong where bytes come from elsewhere.

use std::io;

use hearth_model::ImageError;

/// What went wrong, before it is known what it was for.
#[derive(Debug)]
pub enum Fault {
    Missing,
    Denied(String),
    Damaged(String),
    Unsupported(String),
    Unavailable(String),
}

impl Fault {
    pub fn of(self, uri: &str) -> ImageError {
        let uri = uri.to_owned();
        match self {
            Fault::Missing => ImageError::Missing { uri },
            Fault::Denied(reason) => ImageError::Denied { uri, reason },
            Fault::Damaged(reason) => ImageError::Damaged { uri, reason },
            Fault::Unsupported(reason) => ImageError::Unsupported { uri, reason },
            Fault::Unavailable(reason) => ImageError::Unavailable { uri, reason },
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Unavailable(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                format!("the disk of the cache folder is full ({error})")
            }
            _ => error.to_string(),
        })
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Missing => f.write_str("it is not there"),
            Fault::Denied(reason)
            | Fault::Damaged(reason)
            | Fault::Unsupported(reason)
            | Fault::Unavailable(reason) => f.write_str(reason),
        }
    }
}
