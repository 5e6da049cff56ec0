//! What tests need around Postrider: databases of their own and the things they hold.
