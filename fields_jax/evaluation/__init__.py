"""How good a prediction is: of emotion (`affect`) and of geometry (`geometry`)."""
