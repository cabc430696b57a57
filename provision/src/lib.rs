//! One inventory turns bare hosts into a farm, and keeps them so
