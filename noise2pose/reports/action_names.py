"""How tables call the actions of Human3.6M."""

# The columns of the tables by action, in the order of the literature, by the first word of the action.
HUMAN36M_ACTIONS = {
    "Directions": "Dir",
    "Discussion": "Disc",
    "Eating": "Eat",
    "Greeting": "Greet",
    "Phoning": "Phone",
    "Photo": "Photo",
    "Posing": "Pose",
    "Purchases": "Purch",
    "Sitting": "Sit",
    "SittingDown": "SitD",
    "Smoking": "Smoke",
    "Waiting": "Wait",
    "WalkDog": "WalkD",
    "Walking": "Walk",
    "WalkTogether": "WalkT",
}
