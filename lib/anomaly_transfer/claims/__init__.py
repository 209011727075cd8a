"""The ledger of claims: what each says, its threshold, and the verdict of the recorded runs."""
