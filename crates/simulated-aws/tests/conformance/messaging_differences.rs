const DIFFERENCES: &[Difference] = &[];
