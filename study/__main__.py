from study.cli import program

program()
