//! One round: pairs of exchanges in, a finding out; asked after every pair whether to go on.
