//! What a middlebox does, as data: the profiles of the laboratory.
