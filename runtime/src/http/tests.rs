//! The API from outside: requests in, documents and problems out.

mod documents;
